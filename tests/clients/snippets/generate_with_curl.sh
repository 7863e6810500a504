curl -s http://127.0.0.1:8080/v1/images/generations \
  -H "Authorization: Bearer igw_sandbox" -H "Content-Type: application/json" \
  -d '{"model": "gpt-image-2", "prompt": "a lighthouse at dawn"}' \
  | sed 's/.*"b64_json":"\([^"]*\)".*/\1/' | base64 -d > image.png
