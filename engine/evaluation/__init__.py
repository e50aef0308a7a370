"""How well a checkpoint does what it is told: held-out scenes, figures, a table and a picture."""
