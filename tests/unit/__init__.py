"""Tests of single modules, laid out as the packages of alligator are."""
