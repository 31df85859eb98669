"""Read and check configurations, and make the parts that they name."""
