"""The API's own documentation: the OpenAPI document, and the pages that are rendered from it."""
