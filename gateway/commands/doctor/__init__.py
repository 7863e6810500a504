"""`image-gateway doctor`: checks an installation from the outside, and says what to change."""

from gateway.commands.doctor.doctor_command import doctor

__all__ = ["doctor"]
