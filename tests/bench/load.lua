-- wrk's request, from the environment; prints the first answer that is none.
wrk.method = "POST"
wrk.body = os.getenv("BODY")
wrk.headers["content-type"] = "application/json"
wrk.headers["accept"] = "application/json, text/event-stream"
for line in (os.getenv("HEADERS") or ""):gmatch("[^\n]+") do
  local name, value = line:match("^([^:]+): (.*)$")
  wrk.headers[name] = value
end
-- TOKENS: one a line, taken in turns.
local tokens, turn = {}, 0
for token in (os.getenv("TOKENS") or ""):gmatch("[^\n]+") do
  tokens[#tokens + 1] = token
end
if #tokens > 0 then
  local requests = {}
  function init()
    for number, token in ipairs(tokens) do
      wrk.headers["authorization"] = "Bearer " .. token
      requests[number] = wrk.format()
    end
  end
  function request()
    turn = turn % #tokens + 1
    return requests[turn]
  end
end
local shown = false
function response(status, headers, body)
  if not shown and (status ~= 200 or body:find('"isError":true') or body:find('"error":{')) then
    shown = true
    io.write("BAD ", status, " ", body:sub(1, 300), "\n")
  end
end
