"""The pages of the app, one module each; they show what taxonomy, recommender and runners say and decide nothing."""
