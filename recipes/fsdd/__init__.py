"""Free Spoken Digit Dataset."""
