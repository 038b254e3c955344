"""What is delivered beside the package: images, and proofs that anyone can run."""
