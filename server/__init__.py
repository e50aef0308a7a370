"""The socket service: queue, job store, worker supervision."""
