"""What training and fitting read: sets of images, their labels, and codes inverted once."""
