"""Texts that come from payloads, made fit to stand in SQL, Jinja and YAML.

What doesn't live here: the files (`staging`, `mart`).
"""

from __future__ import annotations

import json


def jinja_string(text: str) -> str:
    """A text as a string of Jinja."""
    return "'" + _escaped(text).replace("\\", "\\\\").replace("'", "\\'") + "'"


def sql_in_jinja(text: str) -> str:
    """A text as a string of Jinja that stands between single quotes in SQL later."""
    return jinja_string(text.replace("'", "''"))


def comment(text: str) -> str:
    """A text within a comment of Jinja, on one line."""
    return _harmless(text)


def yaml_string(text: str) -> str:
    """A text as a double-quoted string of YAML; dbt renders it with Jinja, to which it says nothing."""
    return json.dumps(_harmless(text), ensure_ascii=False)


def _escaped(text: str) -> str:
    return "".join(c if c.isprintable() else f"\\u{ord(c):04x}" for c in text)


def _harmless(text: str) -> str:
    """Nothing that a terminal or Jinja would obey."""
    visible = "".join(c if c.isprintable() else "�" for c in text)
    for sign in "{%#":
        visible = visible.replace("{" + sign, "{ " + sign).replace("{" + sign, "{ " + sign)
    for sign in "%#}":
        visible = visible.replace(sign + "}", sign + " }").replace(sign + "}", sign + " }")
    return visible
