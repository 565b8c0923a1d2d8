"""Output formats: tables and HTML pages."""
