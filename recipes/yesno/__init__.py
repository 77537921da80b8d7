"""YesNo."""
