"""Commands that read or write stored records."""
