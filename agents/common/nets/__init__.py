"""Networks with stacked parameters, and their evaluation."""
