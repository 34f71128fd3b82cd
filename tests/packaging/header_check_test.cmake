# Tests the header check itself on a small tree full of violations: cmake -D WORK_DIR=<folder> -P <this file>

cmake_minimum_required(VERSION 3.25)

set(tree ${WORK_DIR}/include)
file(REMOVE_RECURSE ${tree})
set(expected "")

# Writes a header. Further arguments: the violations that it must be reported for.
function(header name text)
  file(WRITE ${tree}/intact/${name} "#pragma once\n${text}\n")
  foreach(violation IN LISTS ARGN)
    list(APPEND expected "intact/${name}: ${violation}")
  endforeach()
  set(expected "${expected}" PARENT_SCOPE)
endfunction()

# Runs the check on the tree: it must fail if and only if something is expected, and report just that.
function(expect_report)
  execute_process(COMMAND ${CMAKE_COMMAND} -D INCLUDE_DIR=${tree} -P ${CMAKE_CURRENT_LIST_DIR}/header_check.cmake
                  ERROR_VARIABLE output RESULT_VARIABLE result)
  string(REGEX MATCHALL "intact/[a-z0-9_/.]+: [^\n]+" reported "${output}")
  foreach(violation IN LISTS expected)
    if(NOT violation IN_LIST reported)
      message(SEND_ERROR "not reported: ${violation}")
    endif()
  endforeach()
  foreach(violation IN LISTS reported)
    if(NOT violation IN_LIST expected)
      message(SEND_ERROR "reported without need: ${violation}")
    endif()
  endforeach()
  if((expected AND result EQUAL 0) OR (NOT expected AND NOT result EQUAL 0))
    message(SEND_ERROR "the check ended with ${result}; it printed\n${output}")
  endif()
endfunction()

# A tree in order: words in comments and literals are no violations.
header(config/compiler.hpp "#include <stdexcept>\n#if defined(__cpp_exceptions)\n#define INTACT_EXCEPTIONS 1\n#endif")
header(types/view.hpp "#include <cstddef>\n\n#include \"intact/config/compiler.hpp\"")
header(reference/gemm.hpp "#include \"intact/types/view.hpp\"\n// float, double, 0.5, _mm_add_epi8 and __builtin_ctz")
header(kernel/product.hpp "#include \"intact/types/view.hpp\"")
header(gemm.hpp "#include \"intact/kernel/product.hpp\"\n/* a double, * \n 1e5 */ auto s = \"0.5 double\", c = '.';")
header(model/vit.hpp "#include \"intact/gemm.hpp\"\nint x = 0x1e5 + 1'000; auto f = [](auto... v) { return v.x0; };")
header(intact.hpp "#include \"intact/model/vit.hpp\"")
header(config/floating_point.hpp "#if defined(__FAST_MATH__)\n#error no\n#endif")
header(build/scale.hpp "#include <vector>\n#include \"intact/config/floating_point.hpp\"\ndouble half = 0.5;")
header(build/table.hpp "#include <cmath>\n#include \"intact/types/view.hpp\"")
header(quantize/eigen.hpp "#include <Eigen/Core>\n#include \"intact/intact.hpp\"")
header(io/safetensors_header.hpp "#include <nlohmann/json.hpp>\n")
file(WRITE ${tree}/intact/dispatch/unit.cpp "#ifdef INTACT_TAG\n#endif\n")
file(WRITE ${tree}/intact/interop/dispatch/interop_unit.cpp "#ifdef INTACT_TAG\nfloat x;\n#endif\n")
file(WRITE ${tree}/intact/c/intact.h "#ifndef INTACT_H\n#define INTACT_H\n#include <stdint.h>\n#endif\n")
file(WRITE ${tree}/intact/c/gemm.cpp "#include \"intact/c/status.hpp\"\n")
header(c/status.hpp "#include \"intact/c/intact.h\"\n#include \"intact/quantize/eigen.hpp\"")
expect_report()

# Header layers
header(types/up.hpp "#include \"intact/gemm.hpp\"" "includes intact/gemm.hpp: layer 1 does not see layer 5")
header(arith/up.hpp "  #  include \"intact/reference/gemm.hpp\""
       "includes intact/reference/gemm.hpp: layer 2 does not see layer 7")
header(quantize/up.hpp "#include \"intact/c/intact.h\"" "includes intact/c/intact.h: layer 10 does not see layer 11")
header(up.hpp "#include \"intact/model/vit.hpp\"" "includes intact/model/vit.hpp: layer 5 does not see layer 6")
header(model/up.hpp "#include \"intact/build/scale.hpp\""
       "includes intact/build/scale.hpp: layer 6 does not see layer 8")
header(model/all.hpp "#include \"intact/intact.hpp\"" "includes intact/intact.hpp, which is for users")
header(kernel/gemm.hpp "#include \"intact/reference/gemm.hpp\""
       "includes intact/reference/gemm.hpp: layer 4 does not see layer 7")
header(simd/stages.hpp "#include \"intact/stage/fused.hpp\""
       "includes intact/stage/fused.hpp: simd/ and stage/ do not see each other")
header(reference/add.hpp "#include \"intact/gemm.hpp\"")
header(build/layernorm.hpp "#include \"intact/quantize/eigen.hpp\""
       "includes intact/quantize/eigen.hpp: layer 8 does not see layer 10")
header(io/model_file.hpp "#include \"intact/quantize/eigen.hpp\""
       "includes intact/quantize/eigen.hpp: layer 9 does not see layer 10")

# Places
header(common/helper.hpp "" "is in no layer")
header(gemm.h "" "is in no layer")
header(add.hpp "#include \"intact/common/helper.hpp\"" "includes intact/common/helper.hpp, which is in no layer")
header(relative.hpp "#include \"gemm.hpp\""
       "has #include \"gemm.hpp\", which must be #include \"intact/...\" or #include <...>")
header(angles.hpp "#include <intact/gemm.hpp>"
       "has #include <intact/gemm.hpp>, which must be #include \"intact/...\" or #include <...>")

# Headers of others
header(prints.hpp "#include <iostream>" "includes <iostream>, which is not on the list of public/")
header(types/heap.hpp "#include <vector>" "includes <vector>, which is not on the list of types/")
header(model/throws.hpp "#include <stdexcept>" "includes <stdexcept>, which is not on the list of model/")
header(kernel/matrix.hpp "#include <Eigen/Core>" "includes <Eigen/Core>, which is not on the list of kernel/")
header(kernel/vector.hpp "#include <immintrin.h>" "includes <immintrin.h>, which is not on the list of kernel/")
header(kernel/detect.hpp "#include <cpuid.h>" "includes <cpuid.h>, which is not on the list of kernel/")
header(quantize/observe.hpp "#include <Eigen/Core>" "includes <Eigen/Core>, which is not for this header")
header(quantize/build_vit.hpp "#include <nlohmann/json.hpp>" "includes <nlohmann/json.hpp>, which is not for this header")
header(io/files.hpp "#include <fcntl.h>" "includes <fcntl.h>, which is not of the standard library")
header(io/replace_file.hpp "#include <fcntl.h>\n#include <sys/mman.h>"
       "includes <sys/mman.h>, which is not of the standard library")

# Words
header(arith/real.hpp "using real = float;" "has the word float below build/")
header(reference/real.hpp "static_assert(sizeof(double) == 8);" "has the word double below build/")
header(model/half.hpp "constexpr auto half = .5;" "has the floating-point number .5 below build/")
header(model/one.hpp "constexpr auto one = 1.;" "has the floating-point number 1. below build/")
header(model/large.hpp "constexpr auto large = 1e9;" "has the floating-point number 1e9 below build/")
header(build/fold.hpp "// #include \"intact/config/floating_point.hpp\"\nfloat half = 0;"
       "has the word float and does not include intact/config/floating_point.hpp")
header(kernel/intrinsic.hpp "auto z = _mm_setzero_si128();" "has the intrinsic _mm_setzero_si128 outside simd/")
header(kernel/register.hpp "__m256i z;" "has the intrinsic __m256i outside simd/")
header(arith/builtin.hpp "int z = __builtin_ctz(1);" "has the intrinsic __builtin_ctz outside simd/")
header(simd/isa.hpp "#include <immintrin.h>\nauto z = _mm_setzero_si128();")

# Macros and form
header(types/compiler.hpp "#ifdef __GNUC__\n#endif" "has #ifdef __GNUC__ outside config/")
header(build/number.hpp "  #  define INTACT_NUMBER 3" "has #define INTACT_NUMBER 3 outside config/")
string(REPEAT "//\n" 399 comments)
header(types/long.hpp "${comments}" "has 401 lines, but must have at most 400")
string(REPEAT "/" 120 comment)
header(types/full.hpp "${comment}")
header(types/wide.hpp "${comment}/" "has a line of more than 120 characters")
file(WRITE ${tree}/intact/types/twice.hpp "struct twice {};\n")
list(APPEND expected "intact/types/twice.hpp: does not begin with #pragma once")
expect_report()

# Nothing to check is no success.
file(REMOVE_RECURSE ${tree})
set(expected "nothing")
execute_process(COMMAND ${CMAKE_COMMAND} -D INCLUDE_DIR=${tree} -P ${CMAKE_CURRENT_LIST_DIR}/header_check.cmake
                ERROR_QUIET RESULT_VARIABLE result)
if(result EQUAL 0)
  message(SEND_ERROR "the check of an empty tree succeeded")
endif()
