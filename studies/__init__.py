"""Human studies: pairs of pictures, shown blind to people, and what their answers say."""
