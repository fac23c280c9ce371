-- The fields of a request's JSON, whatever the case of their names: TaskId, TaskID, EndTIme.
local fields = {}

function fields.of(request)
  local given = {}
  if type(request.json) == "table" then
    for name, value in pairs(request.json) do
      if type(name) == "string" then given[name:lower()] = value end
    end
  end
  return given
end

return fields
