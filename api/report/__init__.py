"""What a run was like, told afterwards: views as text, tables and pictures, and a page for the browser.

`reading` brings the files of runs into one `Record`; `figures` works out numbers from it, with no I/O; `views` are the ones of
QCG-PilotJob's qcg-pm-report and qcg-pm-processes; `rendering`, `svg` and `page` write them down.
"""
