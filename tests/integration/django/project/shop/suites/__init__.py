"""Tests inside the project, which test_project.py runs with manage.py test."""
