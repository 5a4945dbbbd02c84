"""From labeled tickets to a registered model: dataset, encoder, head, adapter, calibration, in one run that can be resumed."""
