"""Makes the dashboards. They are written here once and for all, in the words of the field; Grafana's JSON follows."""
