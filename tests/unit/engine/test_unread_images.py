"""Small images are kept until they are read once, or their job is deleted, and not too many of them."""

from gateway.engine.unread_images import MAX_IMAGE_BYTES, MAX_IMAGES, UnreadImages


def test_image_is_given_away_once() -> None:
    images = UnreadImages()
    images.add("00/job/image", b"content")
    assert images.take("00/job/other") is None
    assert images.take("00/job/image") == b"content"
    assert images.take("00/job/image") is None


def test_large_image_is_not_kept() -> None:
    images = UnreadImages()
    images.add("largest", bytes(MAX_IMAGE_BYTES))
    images.add("too large", bytes(MAX_IMAGE_BYTES + 1))
    assert images.take("largest") is not None
    assert images.take("too large") is None


def test_oldest_image_is_dropped_when_there_are_too_many() -> None:
    images = UnreadImages()
    for number in range(MAX_IMAGES + 1):
        images.add(f"image {number}", b"content")
    assert images.take("image 0") is None
    assert images.take("image 1") == images.take(f"image {MAX_IMAGES}") == b"content"


def test_images_of_a_deleted_job_are_discarded() -> None:
    images = UnreadImages()
    images.add("00/job/image", b"content")
    images.add("00/other/image", b"content")
    images.discard("00/job/")
    assert images.take("00/job/image") is None
    assert images.take("00/other/image") == b"content"
