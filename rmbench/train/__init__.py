"""Training what rmbench ships."""
