"""What Grafana needs: dashboards, what makes them, and their provisioning."""
