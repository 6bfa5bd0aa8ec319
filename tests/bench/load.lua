-- wrk's request, from the environment; prints the first answer that is none.
wrk.method = "POST"
wrk.body = os.getenv("BODY")
wrk.headers["content-type"] = "application/json"
wrk.headers["accept"] = "application/json, text/event-stream"
for line in (os.getenv("HEADERS") or ""):gmatch("[^\n]+") do
  local name, value = line:match("^([^:]+): (.*)$")
  wrk.headers[name] = value
end
local shown = false
function response(status, headers, body)
  if not shown and (status ~= 200 or body:find('"isError":true') or body:find('"error":{')) then
    shown = true
    io.write("BAD ", status, " ", body:sub(1, 300), "\n")
  end
end
