"""Two small services with customers, whose events the platform archives; nothing here knows the platform."""
