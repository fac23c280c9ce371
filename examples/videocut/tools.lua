-- What both programs of the example need: ffmpeg, a folder, a video.
local ltsh = require "ltsh"
local uv = require "luv"

local tools = {}

--- Ends the program with a word on how to get ffmpeg, if it is missing.
function tools.need_ffmpeg()
  for _, name in ipairs { "ffmpeg", "ffprobe" } do
    if not ltsh.exec { name, "-version" } then
      io.stderr:write("videocut: ", name, " is missing. On Debian and Ubuntu: sudo apt-get install ffmpeg; ",
        "on macOS: brew install ffmpeg\n")
      os.exit(1)
    end
  end
end

--- A folder that is there afterwards; its real path.
function tools.folder(path)
  uv.fs_mkdir(path, 493)
  return assert(uv.fs_realpath(path), path .. " cannot be made")
end

--- A video to begin with: ffmpeg's own test picture and a tone, for so many seconds.
function tools.sample(folder, seconds)
  local path = folder .. "/sample.mp4"
  if uv.fs_stat(path) then return path end
  io.stderr:write("videocut: making a sample video\n")
  local part = folder .. "/.cut-sample.part"
  local result = assert(ltsh.exec {
    "ffmpeg", "-nostdin", "-loglevel", "error", "-f", "lavfi", "-i", "testsrc2=size=640x360:rate=24",
    "-f", "lavfi", "-i", "sine=frequency=440", "-t", tostring(seconds), "-c:v", "libx264", "-preset", "ultrafast",
    "-c:a", "aac", "-f", "mp4", "-movflags", "+faststart", "-y", part,
  })
  if result.code ~= 0 then error("the sample could not be made: " .. result.stderr, 0) end
  assert(uv.fs_rename(part, path))
  return path
end

--- Puts a video into the folder, and gives its path there.
function tools.bring(folder, path)
  local real = assert(uv.fs_realpath(path), "there is no such video: " .. path)
  if real:sub(1, #folder + 1) == folder .. "/" then return real end
  local own = folder .. "/" .. real:match "[^/]+$"
  if not uv.fs_stat(own) and not uv.fs_link(real, own) then assert(uv.fs_copyfile(real, own)) end
  return own
end

return tools
