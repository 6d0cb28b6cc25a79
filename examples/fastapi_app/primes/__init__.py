"""A web site that counts prime numbers in a worker."""
