"""From live traffic back to training: rows from feedback, drift, reliability per type, recalibration without training."""
