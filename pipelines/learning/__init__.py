"""Model building blocks shared by cases: functions, not base classes."""
