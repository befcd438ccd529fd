"""Small encoders of our own, trained from scratch: they stand where the pretrained ones stand, and need nothing but recordings."""
