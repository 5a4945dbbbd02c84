"""The small CPU model `cloister-nano`, from raw text to committed weights. One module per step, each runs alone."""
