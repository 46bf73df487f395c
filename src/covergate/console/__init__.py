"""The console: pages for operators, tenants' people and partners, on the same core functions as the API."""
