"""Networks with stacked parameters, and how they are evaluated."""
