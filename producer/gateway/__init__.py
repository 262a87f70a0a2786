"""The gateway: a loopback proxy that holds the key, meters every response and never lets a cap be passed."""
