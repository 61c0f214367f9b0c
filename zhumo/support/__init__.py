"""The support desk: what a company has written, found, quoted and cited."""
