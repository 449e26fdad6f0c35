{#- The grain of a model with more than one key column. -#}
{% test unique_combination(model, columns) %}

select {{ columns | join(', ') }}
from {{ model }}
where {{ may_be_twice(model, columns) }}
group by {{ columns | join(', ') }}
having count(*) > 1

{% endtest %}
