"""What features are about. An entity is shared by all case studies that speak of the same thing."""

from feast import Entity, ValueType

user = Entity(
    name="user", join_keys=["user_id"], value_type=ValueType.STRING, description="Somebody who is served."
)
video = Entity(
    name="video", join_keys=["video_id"], value_type=ValueType.STRING, description="A video of the catalogue."
)
