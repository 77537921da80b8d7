"""speechocean762."""
