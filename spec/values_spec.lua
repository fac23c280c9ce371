-- Values as bytes (ltsh.core.encode, decode: what containers and worker states do with items and outputs),
-- and as JSON text.

local core = require "ltsh.core"
local json = require "ltsh".json

-- Equal in value, and in kind: 1 is not 1.0, 0.0 is not -0.0, NaN is NaN.
local function same(a, b)
  if math.type(a) ~= math.type(b) or type(a) ~= type(b) then return false end
  if math.type(a) == "float" then return string.pack("n", a) == string.pack("n", b) end
  if type(a) ~= "table" then return a == b end
  for key, value in next, a do
    if not same(value, rawget(b, key)) then return false end
  end
  for key in next, b do
    if rawget(a, key) == nil then return false end
  end
  return true
end

local function hex(s)
  return (s:gsub(".", function(c) return ("%02x"):format(c:byte()) end))
end

local function bytes(s)
  return (s:gsub("%s", ""):gsub("..", function(digits) return string.char(tonumber(digits, 16)) end))
end

local function nested(levels, leaf)
  local value = leaf
  for _ = 1, levels do value = { a = value } end
  return value
end

describe("an encoded value", function()
  local function round(value)
    local encoded, message = core.encode(value)
    assert(encoded, message)
    return core.decode(encoded)
  end

  local function comes_back(value)
    assert.is_true(same(value, round(value)))
  end

  it("keeps integers of every size", function()
    local edges = { 0, 31, 32, 127, 128, 255, 256, 32767, 32768, 65535, 65536, 1 << 31, (1 << 31) - 1,
      (1 << 32) - 1, 1 << 32, 1 << 53, (1 << 53) + 1, math.maxinteger, math.mininteger }
    for _, n in ipairs(edges) do
      for _, value in ipairs { n, n - 1, n + 1, -n, -n - 1, -n + 1 } do
        local back = round(value)
        assert.equal("integer", math.type(back))
        assert.equal(value, back)
      end
    end
  end)

  it("takes the smallest form of an integer", function()
    local forms = { [0] = "00", [127] = "7f", [-1] = "ff", [-32] = "e0", [-33] = "d0df", [-128] = "d080",
      [-129] = "d1ff7f", [128] = "cc80", [255] = "ccff", [256] = "cd0100", [65535] = "cdffff", [65536] = "ce00010000",
      [-32768] = "d18000", [-32769] = "d2ffff7fff", [(1 << 32) - 1] = "ceffffffff",
      [1 << 32] = "cf0000000100000000",
      [-(1 << 31)] = "d280000000", [-(1 << 31) - 1] = "d3ffffffff7fffffff",
      [math.maxinteger] = "cf7fffffffffffffff", [math.mininteger] = "d38000000000000000" }
    for value, form in pairs(forms) do assert.equal(form, hex(core.encode(value))) end
  end)

  it("keeps floats, the special ones too", function()
    for _, value in ipairs { 1.0, 0.0, -0.0, 0.1, -1.5, 2.0 ^ 53, 2.0 ^ 63, 1e300, 5e-324, math.pi, math.huge,
      -math.huge } do
      local back = round(value)
      assert.equal("float", math.type(back))
      assert.equal(string.pack("n", value), string.pack("n", back))
    end
    local nan = round(0 / 0)
    assert.is_true(nan ~= nan)
    assert.equal("cb3ff0000000000000", hex(core.encode(1.0)))
  end)

  it("keeps strings of any bytes and length", function()
    local all = {}
    for i = 0, 255 do all[#all + 1] = string.char(i) end
    comes_back(table.concat(all))
    for _, n in ipairs { 0, 1, 2, 3, 4, 7, 8, 9, 15, 16, 17, 31, 32, 33, 255, 256, 65535, 65536, 1 << 20 } do
      comes_back(("\0x\xff"):rep(n):sub(1, n))
    end
    assert.equal("a161", hex(core.encode("a")))
    assert.equal("d920" .. ("61"):rep(32), hex(core.encode(("a"):rep(32))))
    assert.equal("da0100", hex(core.encode(("a"):rep(256))):sub(1, 6))
    assert.equal("db00010000", hex(core.encode(("a"):rep(65536))):sub(1, 10))
  end)

  it("keeps booleans and null", function()
    assert.equal("c2", hex(core.encode(false)))
    assert.equal("c3", hex(core.encode(true)))
    assert.equal("c0", hex(core.encode(json.null)))
    comes_back { a = true, b = false, c = json.null, list = { json.null, false, json.null } }
    assert.equal(json.null, round(json.null))
  end)

  it("keeps tables in tables, and keys that are numbers or booleans", function()
    comes_back { id = "x", list = { 1, 2.5, { "three" } }, deep = { deep = { deep = {} } } }
    comes_back { [-1] = "a", [0] = "b", [1.5] = "c", [true] = "d", [false] = "e", [math.mininteger] = "f", [""] = "g" }
    comes_back { 1, 2, 3, x = 4 }
    comes_back { [2] = 2, [3] = 3 }
    comes_back { [1] = 1, [3] = 3 }
  end)

  it("is an array when the keys are exactly 1..n, however the table was built", function()
    assert.equal("93010203", hex(core.encode { 1, 2, 3 }))
    for _, n in ipairs { 1, 2, 3, 4, 5, 8, 15, 16, 17, 100 } do
      local forward, reverse, scattered, grown = {}, {}, {}, { x = true, y = true, z = true }
      for i = 1, n do forward[i] = i end
      for i = n, 1, -1 do reverse[i] = i end
      for i = 1, n do scattered[i * 7 % 101 <= n and i * 7 % 101 or i] = true end
      for i = 1, n do scattered[i] = i end
      for i = n, 1, -1 do grown[i] = i end
      grown.x, grown.y, grown.z = nil, nil, nil
      local expected = core.encode(forward)
      assert.equal(n < 16 and "9" or "d", hex(expected):sub(1, 1))
      assert.equal(expected, core.encode(reverse))
      assert.equal(expected, core.encode(scattered))
      assert.equal(expected, core.encode(grown))
      comes_back(forward)
    end
  end)

  it("is a map when there is a hole or another key", function()
    for _, value in ipairs { { [2] = 1 }, { 1, nil, 3 }, { nil, 2 }, { 1, 2, x = 1 }, { 1, 2, [0] = 1 },
      { 1, 2, [2.5] = 1 }, { 1, 2, [-1] = 3 }, { nil, 2, [-1] = 1 }, { nil, 2, ["1"] = 1 }, { 1, nil, 3, x = 1 } } do
      assert.equal("8", hex(core.encode(value)):sub(1, 1))
      comes_back(value)
    end
    local dense = {}
    for i = 1, 64 do dense[i] = i end
    for i = 2, 63 do dense[i] = nil end
    assert.equal("82", hex(core.encode(dense)):sub(1, 2))
    comes_back(dense)
  end)

  it("is an array or a map when empty, by the mark", function()
    assert.equal("80", hex(core.encode {}))
    assert.equal("90", hex(core.encode(json.array())))
    assert.equal("90", hex(core.encode(json.array {})))
    assert.is_nil(getmetatable(round {}))
    assert.equal(getmetatable(json.array()), getmetatable(round(json.array())))
    assert.equal("90", hex(core.encode(round(json.array()))))
    assert.is_nil(getmetatable(round(json.array { 1 })))
    assert.equal("81a16b01", hex(core.encode(json.array { k = 1 })))
    local list = round(json.array())
    list[1] = "x"
    assert.equal("91a178", hex(core.encode(list)))
  end)

  it("has heads for every number of entries", function()
    for _, n in ipairs { 0, 1, 15, 16, 17, 255, 256, 65535, 65536 } do
      local map, array = {}, {}
      for i = 1, n do map["k" .. i], array[i] = i, i end
      comes_back { before = "b", map = map, array = array, after = "a" }
    end
    local map = {}
    for i = 1, 16 do map["k" .. i] = i end
    assert.equal("de0010", hex(core.encode(map)):sub(1, 6))
    assert.equal("dc0010", hex(core.encode { 1, 2, 3, 4, 5, 6, 7, 8, 9, 0, 1, 2, 3, 4, 5, 6 }):sub(1, 6))
  end)

  it("is quick with 100,000 entries", function()
    local list = {}
    for i = 100000, 1, -1 do list[i] = i end
    local start = os.clock()
    local back = round(list)
    assert.is_true(os.clock() - start < 1)
    assert.equal(100000, #back)
    assert.is_true(same(list, back))
  end)

  it("calls no metamethod", function()
    local function never() error("called") end
    local touchy = { __index = never, __newindex = never, __pairs = never, __len = never, __eq = never,
      __tostring = never, __call = never, __name = "Touchy" }
    local function touch(t) return setmetatable(t, touchy) end
    comes_back(touch { a = 1, list = touch { 1, 2 }, none = touch {} })
  end)

  it("may hold one table several times", function()
    local shared = { 1, 2 }
    comes_back { a = shared, b = shared, list = { shared, shared } }
  end)

  describe("is refused", function()
    local function refused(value, expected)
      local encoded, message, code = core.encode(value, "item")
      assert.is_nil(encoded)
      assert.equal(expected, message)
      assert.equal("unstorable", code)
    end

    it("with the path of what cannot be stored", function()
      refused(print, "item: a function cannot be stored")
      refused(nil, "item: nil cannot be stored")
      refused({ cb = print }, "item.cb: a function cannot be stored")
      refused({ list = { 1, 2, { x = io.stdout } } }, "item.list[3].x: a userdata cannot be stored")
      refused({ ["a b"] = { c = coroutine.create(print) } }, 'item["a b"].c: a thread cannot be stored')
      refused({ [1.5] = print }, "item[1.5]: a function cannot be stored")
      refused({ [-7] = print }, "item[-7]: a function cannot be stored")
      refused({ [true] = print }, "item[true]: a function cannot be stored")
      refused({ [1] = print, x = print }, "item" .. (next { [1] = print, x = print } == 1 and "[1]" or ".x")
        .. ": a function cannot be stored")
      refused({ [""] = print }, 'item[""]: a function cannot be stored')
      refused({ ["1x"] = print }, 'item["1x"]: a function cannot be stored')
      refused({ ['"\\\n\0'] = print }, [[item["\"\\\x0A\x00"]: a function cannot be stored]])
      refused({ ["ключ"] = print }, 'item["ключ"]: a function cannot be stored')
      refused({ _a1 = print }, "item._a1: a function cannot be stored")
    end)

    it("with the path of the table whose key cannot be one", function()
      refused({ [{}] = 1 }, "item: a table cannot be a key")
      refused({ a = { [print] = 1 } }, "item.a: a function cannot be a key")
      refused({ { { [io.stdout] = 1 } } }, "item[1][1]: a userdata cannot be a key")
      refused({ [json.null] = 1 }, "item: a userdata cannot be a key")
    end)

    it("when it holds itself", function()
      local a = {}
      a.a = a
      refused(a, "item.a: a cycle (the table is item)")
      local b = { list = { {} } }
      b.list[1].up = b.list
      refused(b, "item.list[1].up: a cycle (the table is item.list)")
      local c = { a = { b = false } }
      c.a.b = c.a
      refused(c, "item.a.b: a cycle (the table is item.a)")
    end)

    it("when it is deeper than 100 levels", function()
      comes_back(nested(100, 1))
      refused(nested(101, 1), "item.a.a.a.a...: deeper than 100 levels")
      refused(nested(100, {}), "item.a.a.a.a...: deeper than 100 levels")
    end)

    it("with a path that stays readable", function()
      local message = select(2, core.encode({ [("k"):rep(1000)] = print }))
      assert.equal('value["' .. ("k"):rep(48) .. '..."]: a function cannot be stored', message)
      message = select(2, core.encode({ [("é"):rep(25)] = print }))
      assert.equal('value["' .. ("é"):rep(24) .. '..."]: a function cannot be stored', message)
      message = select(2, core.encode({ ["x" .. ("é"):rep(25)] = print }))
      assert.equal('value["x' .. ("é"):rep(23) .. '..."]: a function cannot be stored', message)
      message = select(2, core.encode(nested(99, print), ("r"):rep(1000)))
      assert.is_true(#message < 400)
      assert.truthy(message:find("%.%.%.: a function cannot be stored$"))
    end)

    it("when it is too large, and soon", function()
      refused({ ("x"):rep(1 << 20):rep(256), "y" }, "item: larger than 256 MiB")
      local text = ("x"):rep(1 << 20)
      local many = {}
      for i = 1, 257 do many[i] = text end
      refused({ a = many }, "item: larger than 256 MiB")
      local start = os.clock()
      local shared = {}
      for _ = 1, 90 do shared = { shared, shared, a = shared } end
      refused(shared, "item: more than 8388608 values")
      assert.is_true(os.clock() - start < 10)
    end)

    it("and leaves the codec as it was", function()
      for _ = 1, 3 do
        refused({ cb = print }, "item.cb: a function cannot be stored")
        comes_back { a = 1 }
      end
    end)
  end)
end)

describe("decoding", function()
  local function malformed(digits)
    local value, message, code = core.decode(bytes(digits))
    assert.is_nil(value)
    assert.equal("the bytes are not an encoded value", message)
    assert.equal("error", code)
  end

  it("takes what other encoders write", function()
    assert.equal("abc", core.decode(bytes "c403616263"))
    assert.equal("abc", core.decode(bytes "c50003616263"))
    assert.equal("abc", core.decode(bytes "c600000003616263"))
    assert.equal("abc", core.decode(bytes "d903616263"))
    assert.equal(1.5, core.decode(bytes "ca3fc00000"))
    for _, digits in ipairs { "cc05", "cd0005", "ce00000005", "cf0000000000000005", "d005", "d10005", "d200000005",
      "d30000000000000005" } do
      assert.equal(5, core.decode(bytes(digits)))
      assert.equal("integer", math.type(core.decode(bytes(digits))))
    end
    assert.equal(-1, core.decode(bytes "d0ff"))
    assert.equal(-1, core.decode(bytes "d1ffff"))
    assert.equal(-1, core.decode(bytes "d2ffffffff"))
    assert.equal(-1, core.decode(bytes "d3ffffffffffffffff"))
    assert.equal(0xffffffff, core.decode(bytes "ceffffffff"))
    assert.equal("float", math.type(core.decode(bytes "cfffffffffffffffff")))
    assert.equal(2.0 ^ 64, core.decode(bytes "cfffffffffffffffff"))
    assert.is_true(same({ 1, { a = 2 } }, core.decode(bytes "dd00000002 01 df00000001 a16102")))
    assert.is_true(same({ [1] = "a", [2] = "b" }, core.decode(bytes "82 02a162 01a161")))
  end)

  it("refuses what is malformed", function()
    for _, digits in ipairs { "", "c1", "a161c0", "0000", "a2 61", "d9", "d901", "da00", "db7fffffff61", "cc", "cd00",
      "ce000000", "cf00000000000000", "ca000000", "cb00000000000000", "d0", "d1ff", "d2ffffff", "d3ffffffffffffff",
      "91", "9201", "81", "81a161", "dc", "dd000000", "dcffff", "ddffffffff", "deffff", "df7fffffff00", "dfffffffff",
      "c4", "c401", "c6ffffffff" } do
      malformed(digits)
    end
  end)

  it("refuses extension types", function()
    for _, digits in ipairs { "c7010000", "c800010000", "c9000000010000", "d40000", "d5000000", "d600" .. ("00"):rep(4),
      "d700" .. ("00"):rep(8), "d800" .. ("00"):rep(16), "92 01 d40000" } do
      malformed(digits)
    end
  end)

  it("refuses keys that the encoder does not write", function()
    for _, key in ipairs { "c0", "cb7ff8000000000000", "ca7fc00000", "80", "90", "9101" } do
      malformed("81" .. key .. "01")
    end
  end)

  it("refuses what is deeper than 128 levels", function()
    local function arrays(levels) return ("91"):rep(levels) .. "01" end
    local function maps(levels) return ("81a161"):rep(levels) .. "01" end
    assert.is_table(core.decode(bytes(arrays(128))))
    assert.is_table(core.decode(bytes(maps(128))))
    malformed(arrays(129))
    malformed(maps(129))
    malformed(arrays(100000))
  end)

  it("makes no large table from a length alone", function()
    collectgarbage()
    local before = collectgarbage "count"
    malformed("dd7fffffff" .. ("00"):rep(100))
    malformed(("dd000fffff"):rep(100) .. ("00"):rep(1000))
    malformed(("dd00000f00"):rep(100) .. ("00"):rep(4000))
    assert.is_true(collectgarbage "count" - before < 4096)
  end)

  it("refuses every truncation of a value", function()
    local encoded = core.encode { a = 1, b = { 1.5, "text", { true, json.null } }, c = ("x"):rep(300), d = -70000 }
    for n = 0, #encoded - 1 do assert.is_nil(core.decode(encoded:sub(1, n))) end
    assert.is_nil(core.decode(encoded .. "\0"))
    assert.is_table(core.decode(encoded))
  end)

  it("is safe with any bytes", function()
    local state = 12345
    local function random(n)
      state = (state * 1103515245 + 12345) & 0x7fffffff
      return (state >> 8) % n
    end
    for _ = 1, 20000 do
      local list = {}
      for i = 1, random(24) + 1 do list[i] = string.char(random(4) == 0 and random(8) or random(256)) end
      local value = core.decode(table.concat(list))
      if value ~= nil then assert.is_true(same(value, core.decode(core.encode(value)))) end
    end
  end)
end)

describe("ltsh.json", function()
  -- The text, and the same after a round trip.
  local function writes(value, text)
    assert.equal(text, json.encode(value))
    assert.is_true(same(value, json.decode(text)))
  end

  local function raises(message, ...)
    local ok, raised = pcall(json.encode, ...)
    assert.is_false(ok)
    assert.equal("ltsh.json.encode: " .. message, (raised:gsub("^[^ ]-:%d+: ", "")))
  end

  it("writes and reads plain data", function()
    writes(1, "1")
    writes(-5, "-5")
    writes(math.maxinteger, "9223372036854775807")
    writes(math.mininteger, "-9223372036854775808")
    writes(1.0, "1.0")
    writes(-0.0, "-0.0")
    writes(0.1, "0.1")
    writes(1e300, "1e300")
    writes(true, "true")
    writes(false, "false")
    writes(json.null, "null")
    writes("", '""')
    writes('a"\\/\n', [["a\"\\/\n"]])
    writes("\0x", [["\u0000x"]])
    writes("grüße 😀", '"grüße 😀"')
    writes({ 1, 2, { a = 1 } }, '[1,2,{"a":1}]')
    writes({ a = { b = json.null } }, '{"a":{"b":null}}')
  end)

  it("writes every float so that it is read back the same", function()
    for _, value in ipairs { 0.1, 0.1 + 0.2, 1 / 3, math.pi, 5e-324, 1.7976931348623157e308, 123456.789, 2.0 ^ 53 } do
      local text = json.encode(value)
      assert.is_true(same(value, json.decode(text)), text)
      assert.is_true(same({ value, 0.1 }, json.decode(json.encode { value, 0.1 })))
    end
    assert.equal("[0.1,0.2,12.5]", json.encode { 0.1, 0.2, 12.5 })
  end)

  it("knows empty arrays from empty objects", function()
    assert.equal("{}", json.encode {})
    assert.equal("[]", json.encode(json.array()))
    assert.equal('{"a":[]}', json.encode { a = json.array {} })
    assert.equal('[[],{}]', json.encode(json.decode '[ [ ], { } ]'))
    assert.equal("[1]", json.encode(json.array { 1 }))
    local t = {}
    assert.equal(t, json.array(t))
    assert.has_error(function() json.array(1) end)
    assert.has_error(function() json.array(setmetatable({}, {})) end)
  end)

  it("indents when asked", function()
    assert.equal('{\n  "a": [\n    1,\n    2\n  ]\n}', json.encode({ a = { 1, 2 } }, { pretty = true }))
    assert.equal('{"a":1}', json.encode({ a = 1 }, { pretty = false }))
    assert.equal('{"a":1}', json.encode({ a = 1 }, {}))
    raises("unknown option 'prety', there is only 'pretty'", 1, { prety = true })
    raises("pretty must be a boolean, got 1", 1, { pretty = 1 })
    raises("options must be a table, got boolean", 1, true)
  end)

  it("refuses to write what JSON cannot say, and names the place", function()
    raises("value.cb: a function cannot be encoded", { cb = print })
    raises("value[2].x: a userdata cannot be encoded", { 1, { x = io.stdout } })
    raises("value: nil cannot be encoded", nil)
    raises("value.x: inf cannot be encoded", { x = math.huge })
    raises("value.x: -inf cannot be encoded", { x = -math.huge })
    raises("value[1]: NaN cannot be encoded", { 0 / 0 })
    raises("value.s: a string that is not valid UTF-8 cannot be encoded", { s = "\xff" })
    raises("value.s: a string that is not valid UTF-8 cannot be encoded", { s = "\xed\xa0\x80" })
    raises('value["\xff"]: a key that is not valid UTF-8 cannot be encoded', { ["\xff"] = 1 })
    raises([[value["a\x00b"]: a key with a NUL byte cannot be encoded]], { ["a\0b"] = 1 })
    raises("value.t: keys must all be strings, or exactly 1..n", { t = { 1, 2, x = 3 } })
    raises("value: keys must all be strings, or exactly 1..n", { [1] = 1, [3] = 3 })
    raises("value: keys must all be strings, or exactly 1..n", { [1.5] = 1 })
    raises("value: a boolean cannot be a key", { [true] = 1 })
    raises("value.a: a table cannot be a key", { a = { [{}] = 1 } })
  end)

  it("refuses cycles, too many levels, and what grows without end", function()
    local a = { list = {} }
    a.list[1] = a
    raises("value.list[1]: a cycle (the table is value)", a)
    assert.is_string(json.encode(nested(100, 1)))
    raises("value.a.a.a.a...: deeper than 100 levels", nested(101, 1))
    local shared = { 1 }
    for _ = 1, 60 do shared = { shared, shared } end
    raises("value: it takes more than 256 MiB to encode", shared)
  end)

  it("reads numbers in their kind", function()
    for text, value in pairs { ["1"] = 1, ["1.0"] = 1.0, ["1e2"] = 100.0, ["-0.0"] = -0.0, ["0.5"] = 0.5,
      ["9223372036854775807"] = math.maxinteger, ["9223372036854775808"] = 2.0 ^ 63,
      ["18446744073709551615"] = 18446744073709551615, ["-9223372036854775809"] = -2.0 ^ 63 } do
      assert.is_true(same(value, json.decode(text)), text)
    end
    local n = "18446744073709551615"
    local text = ('{"%s": [%s, 1.12345678901234567890, "%s\\"%s", -%s], "n": 7}'):format(n, n, n, n, n)
    local expected = { [n] = { 2.0 ^ 64, 1.1234567890123457, n .. '"' .. n, -2.0 ^ 64 }, n = 7 }
    assert.is_true(same(expected, json.decode(text)))
  end)

  it("reads a NUL in a string", function()
    assert.equal("a\0b", json.decode [["a\u0000b"]])
  end)

  it("says where a text is invalid", function()
    local function invalid(text, expected)
      local value, message, code = json.decode(text)
      assert.is_nil(value)
      assert.equal("invalid", code)
      assert.truthy(message:find(expected), message)
    end
    invalid("", "^line 1, column 0: ")
    invalid("{", "^line 1, column 1: ")
    invalid('{"a": 1,\n "b": x}', "^line 2, column 7: ")
    invalid("[1, 2] 3", "^line 1, column 8: ")
    invalid('{"a": 18446744073709551615, "b": 99999999999999999999,\n "c": 99999999999999999999, "d": x}',
      "^line 2, column 34: ")
    invalid("1e999", "^line 1, column 5: ")
    invalid('"\xff"', "^line 1, column ")
    invalid("nul", "^line 1, column 3: ")
    invalid(("["):rep(100000), "^line 1, column 2049: ")
    assert.has_error(function() json.decode(nil) end, "ltsh.json.decode: text must be a string, got nil")
    assert.has_error(function() json.decode(1) end, "ltsh.json.decode: text must be a string, got number")
  end)

  it("reads deep texts", function()
    local deep = json.decode(("["):rep(1000) .. ("]"):rep(1000))
    for _ = 1, 999 do deep = deep[1] end
    assert.is_nil(next(deep))
  end)
end)
