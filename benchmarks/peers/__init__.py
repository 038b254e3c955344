"""What zpmeow is compared with: small services that answer the same question, each as its library's pages show it."""
