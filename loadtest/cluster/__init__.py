"""A whole cluster on one machine, parts of which are killed while calls go on."""
