"""Digits, spoken by eSpeak NG."""
