"""The bundled models: cards, weights, architectures, the recipes that trained them, and sample images."""
