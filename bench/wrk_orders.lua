-- Posts orders for one image, and prints the results as one line of JSON. Argument: a name for this run. Each order has
-- a prompt of its own, since the gateway answers equal requests with the same job.
local count, name = 0, ""

function init(arguments)
    name = arguments[1]
    wrk.method = "POST"
    wrk.headers["Content-Type"] = "application/json"
    wrk.headers["Authorization"] = "Bearer " .. os.getenv("IGW_KEY_BENCH")
end

function request()
    count = count + 1
    local prompt = "A lighthouse at dusk, waves, oil on canvas. Order " .. count .. " of run " .. name
    local body = '{"model":"gpt-image-2","prompt":"' .. prompt .. '","size":"1024x1024","quality":"low","n":1}'
    return wrk.format(nil, nil, nil, body)
end

function done(summary, latency)
    local errors = summary.errors
    print(string.format(
        '{"requests":%d,"seconds":%f,"status_errors":%d,"socket_errors":%d,"p50_ms":%f,"p99_ms":%f}',
        summary.requests, summary.duration / 1e6, errors.status,
        errors.connect + errors.read + errors.write + errors.timeout,
        latency:percentile(50) / 1000, latency:percentile(99) / 1000))
end
