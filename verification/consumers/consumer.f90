! gfortran mine.f90 consumer.f90 -o consumer && ./consumer < EXPORT/2026.1/OP.txt      (reads the text form)
program consumer
  use mine, only: real64, keep, answer
  implicit none
  character(300000) :: line
  character(100) :: keyword, name, word, op
  real(real64) :: u = 0, factor = 0, floor = 0, largest = 0
  real(real64), allocatable :: value(:), tolerance(:)
  integer :: status, cases, missing = 0, judged = 0, wrong = 0
  logical :: stability = .false., asked = .false., conforms = .true.
  do
    read (*, '(a)', iostat=status) line
    if (status /= 0) exit
    read (line, *) keyword, name  ! a slash ends such a reading, so that of an id only the op is read
    select case (keyword)
    case ('refpg-vectors')
      read (line, *) word, word, word, op, cases
      missing = missing + cases
    case ('tolerance')
      if (name == 'float64') read (line, *) word, word, u, factor, floor
    case ('case')
      stability = line(len_trim(line):) == '1'
      conforms = .true.
    case ('dim', 'input')
      call keep(name, entries())
    case ('answer')
      asked = name == '0' .and. .not. stability
    case ('value')
      value = entries()
    case ('largest')
      read (line, *) word, word, word, word, word, largest
    case ('R')
      tolerance = factor * u * max(entries(), floor * largest) + (nearest(abs(value), 1d0) - abs(value)) / 2
      if (asked) conforms = all(abs(answer(op, name) - value) <= tolerance) .and. conforms
    case ('end')
      word = merge('NOT ASKED', merge('CONFORMS ', 'WRONG    ', conforms), stability)
      print '(a10, a)', word, trim(line(5:))
      missing = missing - 1
      if (.not. stability) judged = judged + 1
      if (.not. conforms) wrong = wrong + 1
    end select
  end do
  print '(3(i0, a))', judged, ' judged, ', wrong, ' wrong, ', missing, ' missing'
  if (missing /= 0 .or. judged == 0) stop 4
  if (wrong > 0) stop 1
contains
  function entries()
    real(real64), allocatable :: entries(:)
    integer :: length
    read (line, *) word, word, word, length
    allocate (entries(length))
    read (line, *) word, word, word, word, word, entries
  end function
end program
