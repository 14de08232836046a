"""What tools/a64fx_model is made of."""
