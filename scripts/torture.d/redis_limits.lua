-- The limits of the torture of Redis: what all hosts say, and what is checked.
return {
  global = 14,                     -- less than what the hosts could run together
  key = 3,
  keys = { "a", "a", "a", "b", "c", "", "", "" }, -- one floods; some tasks have none
  rate = { 60, per = 0.1 },
}
