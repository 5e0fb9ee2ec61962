"""Who may use the service, for what: users and roles, the guard before every request, checks of posted configs."""
