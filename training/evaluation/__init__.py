"""What a model is worth on a file of labeled tickets, beside two baselines and the model that is live. The command is `train evaluate`."""
