-- What luacheck makes of lua/, spec/, examples/, scripts/ and src/: scripts/lint runs it.
std = "lua54"
max_line_length = 120
unused_args = false -- methods of an interface take what they are given
cache = false

files["spec"] = { std = "lua54+busted" }

-- What runs in a Redis server.
files["src/containers/redis"] = {
  std = "lua51", read_globals = { "redis", "struct", "bit", "KEYS", "ARGV", "LIBRARY" }, max_line_length = 130,
}

-- Annotations for editors: declarations without bodies, and lines as long as they need.
files["**/*.d.lua"] = { ignore = { "1..", "2..", "5..", "6.." } }

-- Modules that are broken on purpose, for the specs of hot reload.
exclude_files = { "spec/**/broken*.lua" }
