"""The testing kit, as its users meet it."""
