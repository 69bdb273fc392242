"""Videos and jobs: accepts uploads, keeps the queue, serves results."""
